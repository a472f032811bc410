"use strict";
// Filters of the episodes: a row or a film is shown where it has what every select of the form asks for.
for (const form of document.querySelectorAll("form.filters")) {
  const scope = form.closest(".episodes");
  const kinds = ["row", "film"].map((kind) => [kind, [...scope.querySelectorAll(`[data-kind="${kind}"]`)]]);
  const selects = [...form.querySelectorAll("select")];
  const count = form.querySelector("output");

  const filter = () => {
    const told = [];
    for (const [kind, items] of kinds) {
      for (const item of items) {
        item.hidden = selects.some((select) => select.value !== "" && item.dataset[select.name] !== select.value);
      }
      const shown = items.filter((item) => !item.hidden).length;
      if (items.length) told.push(`${shown} of ${items.length} ${kind === "row" ? "episodes" : "films"}`);
    }
    count.textContent = told.join(", ");
  };

  form.addEventListener("change", filter);
  form.addEventListener("reset", () => setTimeout(filter)); // once the selects are reset
  form.addEventListener("submit", (event) => event.preventDefault());
  form.hidden = false;
  filter();
}
