"""Sandboxes rented from Modal, through its official SDK.

`settings` is what a person sets, `account` is the SDK with our records and errors, `sandboxes` makes a provider for
agent/machines/ of it, `making` puts them together for `agent machines`.
"""
