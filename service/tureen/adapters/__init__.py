"""Tureen in other trainers: the shapes they call a reward with, and nothing of their libraries.

Most of them pass no arguments to a reward function, so the environment says where the service is:

    TUREEN_URL       localhost:8081, grpc://…, grpcs://… (streamed) or http://…, https://…
    TUREEN_TOKEN     sent as Authorization: Bearer, where the service wants a key
    TUREEN_OPTIONS   JSON: other arguments of `RemoteOracle`, {"aggregation": "worst_case", "patience_s": 900}

A sample that cannot be scored becomes what the trainer has for that (None in TRL), or an exception. An outage is
waited out for `patience_s`, then raised. Neither becomes a number.
"""
