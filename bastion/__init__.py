"""An ssh server that leads into Kubernetes pods and records what happens; started by the `bastion` command."""
