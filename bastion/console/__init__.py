"""The bastion's own console, `ssh bastion …`: looking without a shell, choosing a pod; built by app, used by ssh."""
