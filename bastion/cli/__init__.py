"""The `bastion` command: one module per subcommand, each imported only when it is called; started by people."""
