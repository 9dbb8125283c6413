"""Images: layered root file systems that tests run on.

The way of an image: a folder of the project holds it as a tool wrote it
(:mod:`~pytest_isolate.images.oci.layout_reader`); its layers are unpacked once
(:mod:`~pytest_isolate.images.store.untar`, in a :mod:`~pytest_isolate.sandbox.jail`) into a store of the user's
(:mod:`~pytest_isolate.images.store.store`), which all tests share and none changes.

Nothing of this is loaded before a test or a command names an image.
"""
