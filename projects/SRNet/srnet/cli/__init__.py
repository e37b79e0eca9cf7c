"""The command `srnet`: one file a subcommand, imported when it is used."""
