// Sets the formulas that Markdown marked with the class "arithmatex": \( inline \) and \[ displayed \].
document.addEventListener("DOMContentLoaded", () => {
  for (const element of document.querySelectorAll(".arithmatex")) {
    const marked = element.textContent.trim();
    katex.render(marked.slice(2, -2), element, { displayMode: marked.startsWith("\\["), throwOnError: false });
  }
});
