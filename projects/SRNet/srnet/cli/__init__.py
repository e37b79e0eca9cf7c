"""The command `srnet`: one file a subcommand."""
