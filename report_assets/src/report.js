// The report's script. All content is in the page already; this file makes the pictures appear and the controls work.
// Nothing from the data becomes HTML: texts are set with textContent, attributes with setAttribute.
import "img-comparison-slider";
import { amplify } from "./amplification.js";
import { makeTables } from "./tables.js";
import { picture, watchImages } from "./pictures.js";
import { followColours } from "./colours.js";
import { connectLayers } from "./layers.js";
import { connectSlider } from "./slider.js";

document.documentElement.classList.add("scripted");
followColours(document.getElementById("colours"));
makeTables(document.querySelectorAll("[data-table]"));

for (const card of document.querySelectorAll("[data-pictures]")) {
  connectSlider(card);
  connectLayers(card, picture);
  amplify(card, picture);
}
watchImages(document.querySelectorAll("[data-pictures]"));
