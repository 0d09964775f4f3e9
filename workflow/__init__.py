"""What scripts of several families share: it may use every room, and none uses it."""
