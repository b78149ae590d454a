"""The recipe: read (`load`), resolved and frozen (`resolve`), hashed (`keys`), and cut into `steps`.

Nothing is imported here: each step of a run loads this package, and only what it uses of it.
"""
