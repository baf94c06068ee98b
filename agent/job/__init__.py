"""A job is a folder: what is in it, and how that is read, written, locked and taken away where hostile code has been.

Known to whoever runs jobs and to whoever judges them, and knows neither. Standard library only: the shepherd loads it.
"""
