"""What runs in a store beside the devices: broker, and recorder with the live page; for systemd or containers.

plan.py      what is to be written, and where it will lie
units.py     systemd
compose.py   containers
writing.py   the folder
command.py   `shelfkit deploy store`
"""
