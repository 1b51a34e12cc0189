// The divider between the photo and the perturbed photo: its value for screen readers, and more keys.

const KEYS = { Home: () => 0, End: () => 100, PageUp: (value) => value + 10, PageDown: (value) => value - 10 };

export function connectSlider(card) {
  const slider = card.querySelector("img-comparison-slider");
  if (!slider) return;
  const tell = () => {
    const share = Math.round(Math.min(100, Math.max(0, slider.value)));
    slider.setAttribute("aria-valuenow", String(share));
    slider.setAttribute("aria-valuetext", `photo ${share}%, perturbed photo ${100 - share}%`);
  };
  slider.addEventListener("slide", tell);
  slider.addEventListener("keydown", (event) => {
    const move = KEYS[event.key];
    if (!move) return;
    event.preventDefault();
    slider.value = Math.min(100, Math.max(0, move(slider.value)));
    tell();
  });
  tell();
}
