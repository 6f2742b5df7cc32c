"""Gates: what must hold before, and what is judged after, an estimate is made."""
