// The API's page. Swagger's own starts with a script inside of it, which our policy forbids.
const place = document.getElementById("docs");
window.SwaggerUIBundle({
  domNode: place,
  url: place.dataset.description,
  deepLinking: true,
  presets: [window.SwaggerUIBundle.presets.apis],
});
