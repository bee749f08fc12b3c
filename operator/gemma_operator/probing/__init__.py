"""What is seen of engines: one token asked for, one scrape read, and what both say of a replica.

`targets`, `facts`, `exposition`, `deltas` and `answers` are pure; `prober` alone speaks to engines and keeps the time.
"""
