// The few things htmx has no attribute for. Everything here is a comfort: the pages work without.
(() => {
  "use strict";

  // The live quote never needs the picture, which may be many megabytes.
  document.addEventListener("htmx:config:request", (event) => {
    const { request } = event.detail.ctx;
    if (event.target.id === "quote" && request.body instanceof FormData) {
      request.body.delete("image");
      if (!request.body.get("storyboard")?.size) request.body.delete("storyboard");
    }
  });

  // An alternative beside a refusal fills the form, which then asks for its quote by itself.
  document.addEventListener("click", (event) => {
    const choice = event.target.closest?.("button[name=alternative]");
    if (!choice) return;
    event.preventDefault();
    const form = choice.form;
    for (const [name, value] of new URLSearchParams(choice.value)) {
      const field = form.elements[name];
      if (!field) continue;
      field.value = value;
      field.closest("details")?.setAttribute("open", "");
    }
    form.dispatchEvent(new Event("input", { bubbles: true }));
    document.getElementById("quote").focus();
  });

  // A picture or storyboard chosen now stands in for one that was kept from before.
  document.addEventListener("change", (event) => {
    if (event.target.type !== "file") return;
    document.getElementById(`kept-${event.target.name}`)?.remove();
  });
})();
