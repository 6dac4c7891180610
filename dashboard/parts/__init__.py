"""Parts of the pages, a folder each; and the controls that stand on several."""
