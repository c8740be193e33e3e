// The menu closes as menus do: by Escape, and when somebody goes elsewhere.
const menu = document.querySelector("details.menu");

document.addEventListener("keydown", (event) => {
  if (event.key !== "Escape" || !menu.open) return;
  menu.open = false;
  menu.querySelector("summary").focus();
});
for (const kind of ["click", "focusin"]) {
  document.addEventListener(kind, (event) => menu.contains(event.target) || (menu.open = false));
}
