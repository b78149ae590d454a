"""The steps as Kubeflow components, thin: artifacts in, one call of the library, artifacts out."""
