<!DOCTYPE qgis PUBLIC 'http://mrcc.com/qgis.dtd' 'SYSTEM'>
<qgis version="3.22" styleCategories="Symbology">
  <pipe>
    <rasterrenderer redBand="1" greenBand="2" blueBand="3" type="multibandcolor" opacity="1" alphaBand="-1" nodataColor="">
      <redContrastEnhancement>
        <minValue>-2.0421505</minValue>
        <maxValue>2.18603706</maxValue>
        <algorithm>StretchToMinimumMaximum</algorithm>
      </redContrastEnhancement>
      <greenContrastEnhancement>
        <minValue>-2.52161598</minValue>
        <maxValue>1.59304514</maxValue>
        <algorithm>StretchToMinimumMaximum</algorithm>
      </greenContrastEnhancement>
      <blueContrastEnhancement>
        <minValue>-1.46157837</minValue>
        <maxValue>2.64416981</maxValue>
        <algorithm>StretchToMinimumMaximum</algorithm>
      </blueContrastEnhancement>
      <minMaxOrigin>
        <limits>None</limits>
      </minMaxOrigin>
    </rasterrenderer>
  </pipe>
</qgis>
