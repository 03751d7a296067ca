"""The command `theory`: thin over the services that the web uses too."""
