"""The bundled model, its samples, and the scripts that drew and trained them."""
