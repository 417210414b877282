"""Long tests of the mount: what would take the short ones too much time. Each part is a module with a `main`."""
