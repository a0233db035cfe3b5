"""How the quality model is made: see ``__main__.py`` for the one command."""
