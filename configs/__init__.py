"""The Hydra configuration tree; installed as the package `vitask.configs`."""
