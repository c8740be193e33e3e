// What to do now, in the order of its urgency. No page in here.

const LEVELS = { out: 0, low: 1 };

// A device that is well says so four times a minute.
const OLD_MS = 3 * 60 * 1000;

/** Return why a device's picture of its shelf is not to be trusted: a list of words, empty where it is. */
export function doubts(device, now) {
  const status = device.health?.status;
  const found = [];
  if (status && status !== "online") found.push(status);
  else if (!(now - Date.parse(device.heard) < OLD_MS)) found.push("old");
  if (device.health?.safe_mode) found.push("safe-mode");
  return [...found, ...(device.state?.camera?.faults ?? [])];
}

/** Return the products to refill: out before low, then what lacks most, then what lacks longest. */
export function tasks(devices, now) {
  const found = devices.flatMap((device) =>
    (device.state?.products ?? [])
      .filter((product) => product.state in LEVELS)
      .map((product) => ({ device, product, shelf: device.state.shelf, doubtful: doubts(device, now).length > 0 })),
  );
  const missing = ({ product }) => product.filled / Math.max(product.facings, 1);
  const began = ({ product }) => Date.parse(product.since ?? "") || Number.MAX_SAFE_INTEGER;
  return found.sort(
    (a, b) =>
      LEVELS[a.product.state] - LEVELS[b.product.state] ||
      missing(a) - missing(b) ||
      began(a) - began(b) ||
      a.product.label.localeCompare(b.product.label),
  );
}

/** Return slots in which something lies that does not belong there, or that nobody knows. */
export function strays(devices) {
  return devices.flatMap((device) =>
    Object.entries(device.state?.slots ?? {})
      .filter(([, slot]) => slot.state === "misplaced" || slot.state === "unknown")
      .map(([name, slot]) => ({ device, name, slot, shelf: device.state.shelf })),
  );
}
