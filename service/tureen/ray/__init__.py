"""Tureen over many machines or GPUs, on Ray Serve. Needs the extra `ray`.

    door     listens: HTTP and gRPC as `tureen serve` has them, keys and limits; one a machine at most
    engine   a replica: the engine of `tureen serve`, without doors
    keeper   one: knows what soup is active, and brings every engine to it

A request goes from a door to one engine, which answers it by one soup. `tureen serve-ray` starts
them, and so does `serve run tureen.ray.deployments:application model=grounded-qa min_replicas=2`.
"""
