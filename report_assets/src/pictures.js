// Pictures are kept as data URIs in blocks of JSON, one block a photo, and become images when they come near.

const NEAR = "1500px 0px";
const FAR = "8000px 0px";
// The source of an image without its picture. No image is ever without a source: see the template.
const NOTHING_YET = "data:image/gif;base64,R0lGODlhAQABAAAAACwAAAAAAQABAAA=";
const read = new WeakMap();

/** The pictures of a photo by name: { photo, perturbed, difference, layers: [...] }. */
function pictures(card) {
  if (!read.has(card)) {
    read.set(card, JSON.parse(document.getElementById(card.dataset.pictures).textContent));
  }
  return read.get(card);
}

/** The picture of a photo by its name: photo, perturbed, difference, or layer-0, layer-1, ... */
export function picture(card, name) {
  const found = pictures(card);
  if (!name.startsWith("layer-")) return found[name];
  const layer = found.layers[Number(name.slice(6))];
  return layer === "difference" ? found.difference : layer; // stored once
}

function show(card, images) {
  for (const image of images) {
    const uri = picture(card, image.dataset.picture);
    if (uri && image.getAttribute("src") !== uri) image.src = uri;
  }
}

/** Give the images of a card that are meant for the screen their pictures. */
export function showImages(card) {
  show(card, card.querySelectorAll("img[data-picture]:not([data-print])"));
  card.dispatchEvent(new CustomEvent("shown"));
}

function forget(card) {
  for (const image of card.querySelectorAll("img[data-picture]")) image.src = NOTHING_YET;
  read.delete(card);
}

/** Show pictures that are near the visible part of the page, give back those that are far, and show all for a print. */
export function watchImages(cards) {
  for (const frame of document.querySelectorAll(".frame")) {
    // So that the page does not jump when the picture comes.
    const image = frame.querySelector("img");
    frame.style.aspectRatio = `${image.getAttribute("width")} / ${image.getAttribute("height")}`;
  }
  const near = new IntersectionObserver(
    (entries) => {
      for (const entry of entries) if (entry.isIntersecting) showImages(entry.target);
    },
    { rootMargin: NEAR },
  );
  const far = new IntersectionObserver(
    (entries) => {
      for (const entry of entries) if (!entry.isIntersecting) forget(entry.target);
    },
    { rootMargin: FAR },
  );
  for (const card of cards) {
    near.observe(card);
    far.observe(card);
  }
  const showAll = () => {
    for (const card of cards) {
      showImages(card);
      show(card, card.querySelectorAll("img[data-print]"));
    }
  };
  window.addEventListener("beforeprint", showAll);
  const button = document.getElementById("print");
  button?.addEventListener("click", async () => {
    showAll();
    const images = [...document.querySelectorAll("img[data-picture]")];
    await Promise.allSettled(images.map((image) => image.decode()));
    window.print();
  });
}
