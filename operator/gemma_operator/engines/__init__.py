"""How a model server is started and read: one file an engine, found by name. Nothing is started here."""
