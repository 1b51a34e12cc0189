// Light or dark: the system's choice, or the reader's.

const CHOICES = ["system", "light", "dark"];

export function followColours(button) {
  if (!button) return;
  const set = (choice) => {
    if (choice === "system") delete document.documentElement.dataset.colours;
    else document.documentElement.dataset.colours = choice;
    button.textContent = `Colours: ${choice}`;
    button.dataset.choice = choice;
  };
  button.addEventListener("click", () =>
    set(CHOICES[(CHOICES.indexOf(button.dataset.choice) + 1) % CHOICES.length]),
  );
  set("system");
}
