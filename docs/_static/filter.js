// The gallery's filter: each answer names a class that a card must have to be shown; an empty one asks for nothing.
(() => {
  const form = document.querySelector("form.filter");
  if (!form) return;
  const cards = [...document.querySelectorAll(".method")];
  const said = form.querySelector("output");

  function show() {
    const wanted = [...new FormData(form).values()].filter(Boolean);
    for (const card of cards) card.hidden = !wanted.every((name) => card.classList.contains(name));
    const shown = cards.filter((card) => !card.hidden).length;
    said.textContent = `${shown} of ${cards.length} methods fit.`;
  }

  form.addEventListener("change", show);
  form.addEventListener("reset", () => setTimeout(show)); // the form is put back after the event
  window.addEventListener("pageshow", show); // a browser that comes back keeps what was chosen
  form.hidden = false;
  show();
})();
