"""A small Kubernetes whose containers are local processes; started by cli and tests (`python -m bastion.localcluster`).

For the demo and for tests: it speaks the real wire on loopback, and only there.
It does not emulate the kernel's namespaces and does not pretend to.
"""
