"""How the API server is spoken to: who we are, one call at a time, and what is kept of the answers.

- `resources`: names and addresses of what we touch
- `session`: credentials and the one HTTP session, which kopf uses too
- `client`: one call, dicts in and out, errors as a tree
- `records`, `cache`: a table that never goes back in time, and the list-and-watch that feeds it
- `apply`: server-side apply under our field managers, and its answer put back into the cache
- `lease`: who is the leader, and who may still write

Kept out: what an object means. Caches are given their `cut` functions by whoever builds them.
"""
