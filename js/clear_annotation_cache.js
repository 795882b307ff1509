// The App's annotation tool keeps a model's files and image embeddings in the browser, under names that do not change
// with the model. So a page that finds another model on the server than this browser keeps empties both.
(() => {
  const { Operator, OperatorConfig, registerOperator } = window.__foo__;
  const DATABASES = ["fiftyone-models", "fiftyone-embeddings"];
  const KEPT = "mobilesam-annotation-model"; // in localStorage: whose files the browser keeps

  const kept = () => localStorage.getItem(KEPT) ?? "default";

  const served = async () => {
    const get = window.__fou__.getFetchFunction();
    const { url } = await get("GET", "/runtime-assets/models/sam2/decoder.onnx");
    return url.includes("/app_models/") ? url : "default";
  };

  const open = (name) =>
    new Promise((resolve, reject) => {
      const request = indexedDB.open(name);
      request.onsuccess = () => resolve(request.result);
      request.onerror = () => reject(request.error);
    });

  // Emptied rather than deleted: a deletion waits for every page that has the database open.
  const empty = async (name) => {
    if (!(await indexedDB.databases()).some((database) => database.name === name)) return;
    const database = await open(name);
    const stores = [...database.objectStoreNames];
    if (stores.length) {
      await new Promise((resolve, reject) => {
        const transaction = database.transaction(stores, "readwrite");
        stores.forEach((store) => transaction.objectStore(store).clear());
        transaction.oncomplete = resolve;
        transaction.onerror = () => reject(transaction.error);
      });
    }
    database.close();
  };

  const forgetOthers = async () => {
    const model = await served();
    if (model === kept()) return;
    await Promise.all(DATABASES.map(empty));
    localStorage.setItem(KEPT, model);
  };

  // A tool that has been used holds its model until the page goes, and the new page drops the files.
  class ClearAnnotationCache extends Operator {
    get config() {
      return new OperatorConfig({
        name: "clear_annotation_cache",
        label: "Drop the annotation model that this browser keeps, if it has changed",
        unlisted: true,
      });
    }

    async execute() {
      if ((await served()) !== kept()) window.location.reload();
    }
  }

  registerOperator(ClearAnnotationCache, "@mobilesam/fiftyone-mobilesam");
  window.addEventListener("storage", ({ key }) => key === KEPT && window.location.reload()); // the other tabs
  forgetOthers().catch((error) => console.error("MobileSAM: the browser's model files were not checked", error));
})();
