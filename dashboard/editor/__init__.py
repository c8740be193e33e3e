"""The planogram editor: a draft for each device, checked with the kit's own reader, sent to the device."""
