// Photo + k d for larger k. d is in the picture "difference" as 0.5 + factor * d.

async function pixels(uri) {
  const image = new Image();
  image.src = uri;
  await image.decode();
  const canvas = document.createElement("canvas");
  [canvas.width, canvas.height] = [image.naturalWidth, image.naturalHeight];
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.drawImage(image, 0, 0);
  return [canvas, context, context.getImageData(0, 0, canvas.width, canvas.height)];
}

export function amplify(card, picture) {
  const control = card.querySelector("[data-amplification]");
  if (!control) return;
  const shown = card.querySelector("[data-amplification-shown]");
  const image = card.querySelector("img[slot=second]");
  const levels = JSON.parse(control.dataset.amplification);
  const factor = Number(control.dataset.factor);

  const draw = async () => {
    const level = levels[Number(control.value)];
    shown.textContent = `×${level}`;
    control.setAttribute("aria-valuetext", `${level} times`);
    if (level === 1) {
      image.src = picture(card, "perturbed");
      return;
    }
    const [canvas, context, photo] = await pixels(picture(card, "photo"));
    const [, , difference] = await pixels(picture(card, "difference"));
    if (levels[Number(control.value)] !== level) return; // moved on meanwhile
    for (let k = 0; k < photo.data.length; k++) {
      if (k % 4 === 3) continue; // opacity
      photo.data[k] += (level / factor) * (difference.data[k] - 127.5);
    }
    context.putImageData(photo, 0, 0);
    image.src = canvas.toDataURL("image/png");
  };
  control.addEventListener("input", draw);
  // The pictures of a card that was far away are set anew, without amplification.
  card.addEventListener("shown", () => control.value !== "0" && draw());
}
