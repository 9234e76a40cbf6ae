"""The live page: what the bridge does, in a browser, with the controls that change it.

``server`` is the HTTP and WebSocket side, ``hub`` brings frames to clients, ``pictures`` encodes them, ``orders`` reads
what clients ask for, ``metrics`` is for Prometheus, ``security`` decides who may look. ``static/`` is the page itself:
plain HTML, CSS and JavaScript modules, nothing to build.
"""
