"""What is known, as data: variants, checkpoints, accelerators, machines, engines, compatibility."""
