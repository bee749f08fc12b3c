"""Where an endpoint lives: one folder a backend, and the two words that all of them share.

Each backend has `snapshot` (what it looks at), `policies` (what it decides), `render` (what it makes), all
pure, and `act` (the only one that talks). Nothing outside this folder asks which backend it is.
"""
