// The App's annotation tool keeps model files and image embeddings in the browser under names that do not change with
// the model. After a change of model both must go, and the page is reloaded to end a tool that is loaded already.
(() => {
  const { Operator, OperatorConfig, registerOperator } = window.__foo__;

  const open = (name) =>
    new Promise((resolve, reject) => {
      const request = indexedDB.open(name);
      request.onsuccess = () => resolve(request.result);
      request.onerror = () => reject(request.error);
    });

  // Emptied rather than deleted: a deletion waits for every page that has the database open.
  const empty = async (name) => {
    const known = (await indexedDB.databases()).some((database) => database.name === name);
    if (!known) return;
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

  class ClearAnnotationCache extends Operator {
    get config() {
      return new OperatorConfig({
        name: "clear_annotation_cache",
        label: "Forget the annotation model that this browser keeps",
        unlisted: true,
      });
    }

    async execute() {
      await empty("fiftyone-models");
      await empty("fiftyone-embeddings");
      window.location.reload();
    }
  }

  registerOperator(ClearAnnotationCache, "@mobilesam/fiftyone-mobilesam");
})();
