"""Deep networks for many views of a picture, a network a view and way of comparing (system 5)."""
