"""`tureen serve --front-ends N`: N processes with the doors, one with the engine and the device.

    supervisor   holds the ports, starts the others, and starts anew what dies
    front end    HTTP and gRPC: sockets, keys, bodies to contracts, texts to tokens, contracts to bodies
    device       one engine: queue, batches, rewards, permits, quotas, soups, metrics

A front end asks the device process through a Unix socket (`link`), which is `engine.remote`'s way: what
is behind the doors does not know. Python runs one thread at a time in a process; what sockets, JSON and
texts take of it would else be missing where batches are made.
"""
