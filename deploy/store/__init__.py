"""What runs in a store beside the devices, for systemd or containers: broker, recorder and live page.

plan.py      what is to be written, and where it will lie
units.py     systemd
compose.py   containers
writing.py   the folder
command.py   `shelfkit deploy store`
"""
