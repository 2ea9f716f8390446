"use strict";

/* Shows the document that the page has within. Calls go to where the page came from. */
SwaggerUIBundle({
  dom_id: "#page",
  spec: JSON.parse(document.getElementById("api").textContent),
  deepLinking: true,
  defaultModelsExpandDepth: 0,
  displayRequestDuration: true,
  tryItOutEnabled: true,
  validatorUrl: null,
  requestInterceptor: (request) => {
    /* "Authorize" takes a bare key too. */
    const key = request.headers.Authorization;
    if (key && !key.trim().includes(" ")) {
      request.headers.Authorization = `token ${key.trim()}`;
    }
    return request;
  },
});
