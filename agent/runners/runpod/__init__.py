"""Pods rented from RunPod: settings, a small client of its REST interface (v2), and their life cycle."""
