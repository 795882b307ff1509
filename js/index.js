// What the App loads of this folder, which it knows one file of. The query makes a browser ask for the others anew.
(() => {
  const query = `?at=${Date.now()}`;
  for (const name of ["clear_annotation_cache.js", "review_view.js"])
    import(`./${name}${query}`).catch((error) => console.error(`MobileSAM: ${name} was not loaded`, error));
})();
