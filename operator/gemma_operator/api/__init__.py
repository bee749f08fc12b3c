"""What users write and read: the two kinds, their conditions, and the CRDs that are generated from them.

Models are the only place where users' yaml is turned into values; a default or a bound stands here once.
What is known about models and cards lives in `catalog`, never here.
"""
