/* Starts AsyncAPI's React component, where it was asked for in place of the page. */

const root = document.getElementById("asyncapi");
AsyncApiStandalone.render({ schema: { url: root.dataset.document }, config: { show: { sidebar: true } } }, root);
