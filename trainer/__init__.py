"""The training script that proposals change, its packer, its data and its tracks."""
