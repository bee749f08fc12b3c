"""A model server that is not one: the HTTP surface of vLLM 0.32 without a model behind it.

It answers as vLLM does (same routes, same bodies, same metric families), counts what it answers, and says
"simulated" in every answer: header `X-Simulated: true`, `system_fingerprint`, the text itself. What it should
do wrong it is told by pod annotations (see `instructions`).
"""
