"""What is rented: its records, its book, its life, its bill.

`book.py` keeps the rows and the money, `renting.py` rents and gives back, `tending.py` looks after what is there,
`sweep.py` finds what was forgotten and settles, `homes.py` tells a database that was moved from a copy, `storage.py`
pays for volumes, `burn.py` says what it costs now. Providers are in agent/runners/.
"""
