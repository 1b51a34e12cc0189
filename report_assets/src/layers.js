// The layer over the photo: which one, how opaque, and what its colours mean.

export function connectLayers(card, picture) {
  const choice = card.querySelector("[data-layer-choice]");
  if (!choice) return;
  const image = card.querySelector("[data-layer-image]");
  const opacity = card.querySelector("[data-opacity]");
  const share = card.querySelector("[data-opacity-shown]");
  const scale = card.querySelector("[data-scale]");
  const texts = card.querySelector("[data-scale-texts]");
  const meaning = card.querySelector("[data-layer-meaning]");

  const fade = () => {
    image.style.opacity = String(Number(opacity.value) / 100);
    share.textContent = `${opacity.value}%`;
  };
  const change = () => {
    const option = choice.selectedOptions[0];
    image.dataset.picture = `layer-${choice.value}`;
    image.alt = option.dataset.alt;
    image.src = picture(card, image.dataset.picture);
    scale.dataset.scale = option.dataset.colours;
    [texts.firstElementChild.textContent, texts.lastElementChild.textContent] = [option.dataset.low, option.dataset.high];
    meaning.textContent = option.dataset.meaning;
  };
  choice.addEventListener("change", change);
  opacity.addEventListener("input", fade);
  fade();
}
